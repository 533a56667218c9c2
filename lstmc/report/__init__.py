"""A net, and its training run, as one page of HTML that needs nothing else."""

from lstmc.report.page import RunFacts, net_page, recipes_beside, run_facts, trained_model

__all__ = ["RunFacts", "net_page", "recipes_beside", "run_facts", "trained_model"]
