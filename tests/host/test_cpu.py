"""Facts about the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydbi.host import cpu

FLAGS = set()
VENDOR = ""
for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
    name, _, value = line.partition(":")
    if name.strip() == "flags":
        FLAGS = set(value.split())
    if name.strip() == "vendor_id":
        VENDOR = value.strip()


@pytest.mark.skipif(not FLAGS, reason="/proc/cpuinfo does not tell the processor's features")
def test_facts_are_those_of_the_kernel() -> None:
    """Vendor and features are what the kernel reports to be usable."""
    facts = cpu.cpu()
    assert facts.vendor == VENDOR
    assert facts.xsave == ("xsave" in FLAGS)
    assert cpu.has_avx() == ("avx" in FLAGS)
    assert cpu.has_avx512() == ("avx512f" in FLAGS)
    assert cpu.has_fsgsbase() == ("fsgsbase" in FLAGS)


def test_components_lie_in_the_area() -> None:
    """The enabled state components do not overlap and end with the XSAVE area."""
    facts = cpu.cpu()
    end = 0
    for number, (offset, size) in sorted(facts.components.items(), key=lambda item: item[1]):
        assert number < 2 or facts.xcr0 >> number & 1
        assert offset >= end
        end = offset + size
    assert end <= facts.xsave_size
    if facts.avx:
        # The upper halves of ymm0-15 follow the header (SDM volume 1, 13.4).
        assert facts.components[cpu.AVX] == (576, 256)


def test_asked_once() -> None:
    """The processor is asked once; later calls return the same facts."""
    assert cpu.cpu() is cpu.cpu()
