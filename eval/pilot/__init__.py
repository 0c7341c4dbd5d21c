"""The seven-day pilot: a resumable run from real questions to a choice and the metrics to roll it out by."""
