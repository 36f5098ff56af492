"""The device's clock and limits, and the compiler that compiled mode needs."""

import pytest
import torch

from tadaconv.bench.device import Clock, Copy, MatrixProduct, facts, limits

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_limits_do_what_they_count(dtype: torch.dtype) -> None:
    copy, product = Copy(CPU, dtype, mebibytes=1), MatrixProduct(CPU, dtype, size=16)

    assert copy.bytes == 2 * 2**20  # read and written
    assert product.multiply_adds == 16**3
    assert not torch.equal(copy.source, copy.target)
    assert copy() > 0
    assert torch.equal(copy.source, copy.target)
    assert product() > 0


def test_matrices_grow_only_while_a_product_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MatrixProduct, "__call__", lambda product: product.multiply_adds / 256**3 * 0.04)

    assert limits(CPU, torch.float32)[1].multiply_adds == 256**3  # of 512 it would take 0.32 s

    monkeypatch.setattr(MatrixProduct, "__call__", lambda _: 0.0)
    assert limits(CPU, torch.float32)[1].multiply_adds == 1024**3


def test_the_precision_of_products_is_left_as_it_was() -> None:
    before = torch.get_float32_matmul_precision()
    MatrixProduct(CPU, torch.float32, size=4)()

    assert torch.get_float32_matmul_precision() == before


def test_marks_are_read_in_seconds_and_in_order() -> None:
    clock = Clock(CPU)
    marks = [clock.mark() for _ in range(3)]
    clock.wait()

    assert 0 < clock.seconds(marks[0], marks[2]) < 1
    assert clock.seconds(marks[0], marks[1]) + clock.seconds(marks[1], marks[2]) == pytest.approx(
        clock.seconds(marks[0], marks[2])
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_mark_on_cuda_waits_for_the_work_before_it() -> None:
    device = torch.device("cuda")
    product = MatrixProduct(device, torch.float32, size=4096)
    product()

    assert 2 * product.multiply_adds / product() < 2e15  # no device is faster than two petaflops in float32


def test_facts_name_the_versions_the_threads_and_the_day() -> None:
    found = facts(CPU)

    assert found["threads"] == str(torch.get_num_threads())
    assert found["torch"] == torch.__version__
    assert {"device", "processor", "python", "cuda", "tadaconv", "date"} <= found.keys()
