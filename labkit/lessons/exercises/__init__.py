"""One file a lesson, by its id: exercises with solutions, named wrong answers, hints and oracles."""
