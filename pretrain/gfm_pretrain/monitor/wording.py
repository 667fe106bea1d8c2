"""Numbers of a run in words for people."""


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, as `1:06:40` or `6:40`."""
    if seconds is None or not 0 <= seconds < float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: float | None) -> str:
    """Three digits, or all before the point where there are more: `0.0123`, `45.6`, `12,345`."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if 100 <= abs(value) < 1e9 else f"{value:.3g}"


def size(n_bytes: float) -> str:
    """Bytes in the decimal unit that fits: `3.4 MB`."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"


def percent(part: float) -> str:
    """A part of one: `3 %`."""
    return f"{100 * part:.0f} %"
