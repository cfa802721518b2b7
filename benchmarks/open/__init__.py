"""The comparison on a base whose text encoder knows real words: up to a hundred concepts at once, in every way to mean them."""
