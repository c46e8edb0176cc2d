from __future__ import annotations


def test_a_sign_up_creates_the_row_and_no_sync_failure(project):
    user_id = project.auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
    row = project.row(user_id)
    assert row["email"] == "ada@example.com"
    assert project.failure(user_id) is None
    assert project.client.status().in_step
