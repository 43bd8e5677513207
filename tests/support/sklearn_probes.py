"""Probes by scikit-learn, the reference of the solver."""

import numpy as np
from sklearn.linear_model import LogisticRegression


def by_sklearn(x, y, train, penalty):
    """Fit one probe on raw tokens, both classes of which weigh the same."""
    weight = np.where(y, 0.5 / y[train].sum(), 0.5 / (~y[train]).sum())
    fitted = LogisticRegression(C=1 / (2 * penalty), tol=1e-10, max_iter=5000)
    fitted.fit(x[train], y[train], sample_weight=weight[train])
    return fitted
