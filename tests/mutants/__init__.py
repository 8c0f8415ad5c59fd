"""The mutation check: every formula broken in one place at a time, and the laws asked whether they see it.

    make mutants                              a seeded sample of 400
    make mutants ARGS="--all"                 every mutant; goes on where it was interrupted
    make mutants ARGS="formulas/geometry.py"  one file

`making` finds the mutants of a file, `patching` puts one into the running process, `running` forks a process for
each and runs the laws that execute the function in question, `page` writes docs/mutants.md.
"""
