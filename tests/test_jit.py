"""Loops are compiled, and their machine code is kept where it can be."""

from pipeline import jit


def test_without_a_folder_for_machine_code_it_is_compiled_each_time(monkeypatch):
    calls = []

    def njit(function, **options):
        calls.append(options)
        if "cache" in options:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setattr(jit, "njit", njit)
    assert jit.compile_loop(max) is max
    assert calls == [{"nogil": True, "cache": True}, {"nogil": True}]
