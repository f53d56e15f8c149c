"""nbgrader's settings for this course: what a student finds in place of a solution."""

c = get_config()  # noqa: F821, nbgrader puts it there

c.CourseDirectory.course_id = "bert-cnn"
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("Not solved yet: put your code in place of this line.")'
}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"
