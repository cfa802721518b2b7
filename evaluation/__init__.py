"""Measuring erasers of any base by any judge: metrics, controls, baselines, attacks, hard prompts."""
