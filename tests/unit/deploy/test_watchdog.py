"""What the watchdog remembers of what it is told."""

from pathlib import Path

from deploy.watchdog import postmaster_pid, watch


def test_what_ended_in_order_is_forgotten() -> None:
    told = ["group 12\n", "group 34\n", "postgres /data/postmaster.pid\n", "forget 12\n"]
    assert watch(told) == ({34}, Path("/data/postmaster.pid"))
    assert watch([*told, "forget 34\n", "postgres \n"]) == (set(), None)


def test_a_missing_or_empty_pid_file_means_no_server(tmp_path: Path) -> None:
    assert postmaster_pid(None) is None
    assert postmaster_pid(tmp_path / "postmaster.pid") is None
    (tmp_path / "postmaster.pid").write_text("", encoding="utf-8")
    assert postmaster_pid(tmp_path / "postmaster.pid") is None
