"""The metrics of live traffic: read from the gateway's turns and reviews, by the same scorers as a run's."""
