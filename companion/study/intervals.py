"""Closed 95% intervals for texts that are alike within their clusters."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from statsmodels.regression.linear_model import WLS


def auc_influence(above, below) -> np.ndarray:
    """Return numbers (P + Q,) whose mean is the AUC, averaged over seeds, of positives (S, P) and negatives (S, Q).

    Each text counts with the share of the other class that is on its right side. The shares are rescaled so that the
    variance of their mean is the AUC's (DeLong et al. 1988; for clusters, Obuchowski 1997).
    """
    ranks, positives, negatives = rankdata(np.hstack([above, below]), axis=1), above.shape[1], below.shape[1]
    if not positives or not negatives:
        raise ValueError("The AUC needs positive and negative texts.")
    won = (ranks[:, :positives] - rankdata(above, axis=1)).mean(axis=0) / negatives
    lost = 1 - (ranks[:, positives:] - rankdata(below, axis=1)).mean(axis=0) / positives
    auc, total = won.mean(), positives + negatives
    return np.concatenate([auc + (share - auc) * total / len(share) for share in (won, lost)])


def clustered_mean(values, weights, clusters) -> tuple[float, float, float]:
    """Return (mean, low, high) of weighted values: a 95% t-interval, clustered; NaN without two clusters of weight."""
    values, weights, groups = np.asarray(values), np.asarray(weights), pd.factorize(np.asarray(clusters))[0]
    kept = weights > 0
    mean = float(np.average(values, weights=weights)) if kept.any() else np.nan
    if len(np.unique(groups[kept])) < 2:
        return mean, np.nan, np.nan
    model = WLS(values[kept], np.ones(kept.sum()), weights[kept])
    found = model.fit(cov_type="cluster", cov_kwds={"groups": groups[kept]}, use_t=True)
    return mean, float(found.conf_int()[0][0]), float(found.conf_int()[0][1])
