"""Values on the page of metrics."""

from prometheus_client.parser import text_string_to_metric_families

Values = dict[tuple[str, ...], float]


def values(page: bytes | str, name: str) -> Values:
    """Read the values of a metric, each under the values of its labels by their names."""
    text = page.decode() if isinstance(page, bytes) else page
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for sample in samples
        if sample.name == name
    }
