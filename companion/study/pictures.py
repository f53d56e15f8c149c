"""The picture of the answer, for notebook 08 and the README."""

import matplotlib.pyplot as plt

from companion import display

BAND = "less than one point"


def forest(panels: dict, rivals: dict, names: dict, apart=()):
    """Draw differences with 95% intervals, a panel for each table, and return the figure.

    panels: {title: table with the columns dataset, rival, difference, low, high, the last three as shares}.
    rivals: {rival: label}, a mark for each. names: {dataset: name}, a row for each, in this order.
    apart: datasets whose differences are much larger; they are drawn below the others, with an axis of their own.
    """
    measured = [dataset for dataset in names if any(dataset in set(table["dataset"]) for table in panels.values())]
    parts = [[d for d in measured if d not in apart], [d for d in measured if d in apart]]
    parts = [part for part in parts if part]
    heights, width = [len(part) + 0.9 for part in parts], max(2 + 2.6 * len(panels), 7)
    fig, axes = plt.subplots(
        *(len(parts), len(panels)),
        figsize=(width, 1.2 + 0.62 * sum(heights)),
        sharex="row",
        sharey="row",
        squeeze=False,
        height_ratios=heights,
    )
    for place, (row, part) in enumerate(zip(axes, parts, strict=True)):
        for ax, (title, table) in zip(row, panels.items(), strict=True):
            for number, (rival, label) in enumerate(rivals.items()):
                found = table[table["rival"].eq(rival) & table["dataset"].isin(part)]
                if found.empty:
                    continue
                shift, colour = 0.22 * (number - (len(rivals) - 1) / 2), display.PALETTE[number]
                places = [part.index(dataset) + shift for dataset in found["dataset"]]
                ax.hlines(places, 100 * found["low"], 100 * found["high"], color=colour, lw=2)
                ax.plot(100 * found["difference"], places, "os^D"[number], color=colour, ms=6, label=label)
            ax.axvspan(-1, 1, color="#E69F00", alpha=0.2, lw=0, label=BAND)
            ax.axvline(0, color="black", lw=0.8)
            ax.set(yticks=range(len(part)), yticklabels=[names[dataset] for dataset in part])
            ax.set_ylim(len(part) - 0.5, -0.5)
            if place == 0:
                ax.set_title(title, fontsize=10)
    fig.supxlabel("difference in accuracy, in points", fontsize=10)
    drawn = {label: h for ax in axes.flat for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    named = [label for label in [*rivals.values(), BAND] if label in drawn]
    handles = [drawn[label] for label in named]
    fig.legend(handles, named, loc="outside upper center", ncols=len(named), frameon=False, fontsize=9)
    return fig
