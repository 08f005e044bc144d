"""The processor's instruction sets, as different kernels list them."""

from pathlib import Path

import pytest

from pareta_agent.hardware.processor import Processor, read_processor

X86 = "processor\t: 0\nmodel name\t: Xeon {}\nflags\t\t: fpu sse2 avx2 avx512f {} lm\n\nmodel name\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("text", "model", "sets"),
    [
        (X86.format(4, "amx_bf16"), "Xeon 4", ("amx_bf16", "avx2", "avx512f")),
        (X86.format(2, ""), "Xeon 2", ("avx2", "avx512f")),
        (ARM, "0x41", ("asimd", "bf16", "i8mm")),
    ],
)
def test_the_first_processor_is_read(tmp_path: Path, text: str, model: str, sets: tuple[str, ...]) -> None:
    """Its model, and those flags that kernels are chosen by."""
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert read_processor(file) == Processor(model, sets)


def test_an_unreadable_file_leaves_the_architecture(tmp_path: Path) -> None:
    """No instruction set is claimed."""
    assert read_processor(tmp_path / "none").instruction_sets == ()


def test_processors_with_other_instruction_sets_have_other_keys() -> None:
    """A result for one does not hold for the other."""
    assert Processor("Xeon", ("amx_bf16",)).key != Processor("Xeon", ()).key
