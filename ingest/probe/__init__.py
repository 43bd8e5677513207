"""Probes: how well a site predicts the tokens on which each feature is active.

>>> import numpy as np
>>> from ingest.probe.solver.estimator import LogisticProbes
>>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
>>> y = np.array([[0, 1], [0, 1], [1, 0], [1, 0]])
>>> LogisticProbes(penalty=0.01).fit(x, y).predict(x).tolist()
[[False, True], [False, True], [True, False], [True, False]]
"""
