"""Tickets, queues and models of the routing benchmark."""
