"""What the workflow's second task calls; it lies in the folder of modules of the operator."""


def sentence(figures: dict[str, float], *, digits: int) -> str:
    """Return the figures as a sentence."""
    mean, spread = (round(figures[name], digits) for name in ("mean", "spread"))
    return f"The mean is {mean}, give or take {spread}."
