"""psiphi's models in scikit-learn's convention: pipelines, grid search, `clone`, data frames, sparse rows.

Constructors only store, what is learnt ends in `_`, outputs have the input's dtype, higher scores are more normal.
An estimator that is pickled (joblib does so between processes) carries its model as safetensors bytes and a recipe.
"""

from psiphi.estimators._autoencoder import Autoencoder, DensityEstimator
from psiphi.estimators._classifier import SemiSupervisedClassifier
from psiphi.estimators._outliers import OutlierDetector

__all__ = ["Autoencoder", "DensityEstimator", "OutlierDetector", "SemiSupervisedClassifier"]
