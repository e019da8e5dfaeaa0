"""Extensions of cosmos-eval, one file each."""
