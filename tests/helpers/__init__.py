"""What several test files share; imported by name, as `helpers`."""
