"""A net, and its training run, as one page of HTML that needs nothing else."""

from lstmc.report.facts import RunFacts, recipes_beside, run_facts, trained_model
from lstmc.report.page import net_page

__all__ = ["RunFacts", "net_page", "recipes_beside", "run_facts", "trained_model"]
