"""One file a lesson, by its id: compute and draw of its explorers."""
