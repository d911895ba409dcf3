"""What infinite and finite width predict; imports nothing of labkit."""
