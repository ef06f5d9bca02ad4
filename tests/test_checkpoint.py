"""Writing networks and runs: links, paths that are not files, permissions, two at once; effects of a refusal."""

import os
import socket
import stat

import numpy as np
import pytest
from nnjit import load, registry
from nnjit.errors import RunExists, UsageError
from nnjit.storage import checkpoint
from nnjit.storage.run_directory import RunDirectory


@pytest.fixture(scope="module")
def net():
    return registry.compose(["dense(3)"], input_shape=(4,))


def same(net, path):
    return np.array_equal(load(path).theta, net.theta)


def test_a_save_through_symbolic_links_keeps_them(net, here):
    os.makedirs("store/deep")
    os.symlink("store/deep", "folder")
    os.symlink("real.safetensors", "store/deep/first.safetensors")
    os.symlink("folder/first.safetensors", "net.safetensors")
    for _ in range(2):  # to a missing file, and to an existing one
        net.save("net.safetensors")
        assert os.path.islink("net.safetensors") and os.path.islink("store/deep/first.safetensors")
        assert not os.path.islink("store/deep/real.safetensors") and same(net, "store/deep/real.safetensors")
        assert sorted(os.listdir("store/deep")) == ["first.safetensors", "real.safetensors"]
        assert sorted(os.listdir()) == ["folder", "net.safetensors", "store"]


def directory():
    os.mkdir("target")


def pipe():
    os.mkfifo("target")


def bound_socket():
    socket.socket(socket.AF_UNIX).bind("target")


def device():
    os.symlink(os.devnull, "target")


def loop():
    os.symlink("target", "target")


def nowhere():
    os.symlink("missing/net.safetensors", "target")


KINDS = {directory: "is a directory", pipe: "is a pipe", bound_socket: "is a device or socket",
         device: "is a device or socket", loop: "cannot be written", nowhere: "there is no folder"}  # fmt: skip


@pytest.mark.parametrize("make", KINDS)
def test_a_save_onto_what_is_no_file_is_refused(net, here, make):
    make()
    before = os.lstat("target"), os.stat(os.devnull)
    with pytest.raises(UsageError, match=KINDS[make]) as caught:
        net.save("target")
    assert "\n" not in str(caught.value)
    assert os.listdir() == ["target"] and os.lstat("target").st_mode == before[0].st_mode
    assert os.stat(os.devnull).st_rdev == before[1].st_rdev


def test_a_save_into_a_folder_that_is_not_there(net, here):
    with pytest.raises(UsageError, match="there is no folder missing"):
        net.save("missing/net.safetensors")


def test_permissions_are_those_of_the_file_that_is_replaced(net, here):
    former = os.umask(0o027)
    try:
        net.save("new.safetensors")
        assert stat.S_IMODE(os.stat("new.safetensors").st_mode) == 0o640
        os.chmod("new.safetensors", 0o600)
        net.save("new.safetensors")
        assert stat.S_IMODE(os.stat("new.safetensors").st_mode) == 0o600
    finally:
        os.umask(former)


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_of_two_runs_with_one_name_the_first_stays(net, here, monkeypatch, there):
    """Another process makes the directory while the first writes its checkpoint, after it found the name free."""
    if there:
        os.mkdir("run")
    save = checkpoint.save

    def meanwhile(network, path, **options):
        monkeypatch.setattr(checkpoint, "save", save)
        if there:  # the other process has taken the name
            with pytest.raises(RunExists):
                RunDirectory.create("run", "theirs", net, "", {})
        else:
            RunDirectory.create("run", "theirs", net, "", {})
        save(network, path, **options)

    monkeypatch.setattr(checkpoint, "save", meanwhile)
    if there:
        RunDirectory.create("run", "ours", net, "", {})
    else:
        with pytest.raises(RunExists, match="exists already"):
            RunDirectory.create("run", "ours", net, "", {})
    assert RunDirectory.open("run").config == ("ours" if there else "theirs")
    assert os.listdir() == ["run"]


def test_a_run_that_cannot_be_written_leaves_an_empty_directory_empty(net, here, monkeypatch):
    os.mkdir("run")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match="No space"):
        RunDirectory.create("run", "", net, "", {})
    assert os.listdir("run") == []
