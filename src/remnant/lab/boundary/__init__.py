"""Distances from inputs to the decision boundary of a network: along given directions, and the nearest one."""
