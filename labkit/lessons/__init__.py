"""What a notebook imports: predict, check, hint, solution, claim, explore."""
