"""Whether a language model fits: the answers, what they advise, and what holds for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.catalog.models import LanguageModel
from freehold.errors import BadInputError
from freehold.layout import sizing_memory as memory
from freehold.layout.sizing import Card, Demand, Sizing, alternatives, best, size, size_together

GIB = 1024**3
RTX_4090 = Card("rtx-4090", 24564, compute_capability=8.9)
RTX_3090 = Card("rtx-3090", 24576, compute_capability=8.6)
H100 = Card("h100-80gb", 81559, compute_capability=9.0)
SHAPE = {
    "layers": 32,
    "hidden": 4096,
    "heads": 32,
    "kv_heads": 8,
    "head_size": 128,
    "vocabulary": 128256,
    "context": 131072,
}


def model(
    name: str = "eight",
    *,
    gib: float = 15.0,
    kind: str = "chat",
    total: float = 8,
    active: float | None = None,
    forms: dict[str, Any] | None = None,
    **shape: Any,
) -> LanguageModel:
    """A model shaped as Llama 3.1 8B unless told otherwise, with a 16-bit form, AWQ and one of Ollama's."""
    return LanguageModel.model_validate(
        {
            "id": name,
            "title": name,
            "family": "test",
            "provider": "test",
            "jurisdiction": "ZZ",
            "kind": kind,
            "parameters": {"total": total, "active": active or total},
            "architecture": SHAPE | shape,
            "quantizations": forms
            or {
                "bf16": form(gib),
                "fp8": form(gib / 2, compute_capability=8.9),
                "awq": form(gib / 3),
                "q4_k_m": {
                    "weights_bytes": int(gib / 3 * GIB),
                    "ollama": name,
                    "engines": ["ollama"],
                    "source": "-",
                },
            },
            "sources": {},
        }
    )


def form(gib: float | None, **other: Any) -> dict[str, Any]:
    size = None if gib is None else int(gib * GIB)
    return {"weights_bytes": size, "repository": "a/b", "engines": ["vllm", "sglang"], "source": "-"} | other


def test_a_small_model_fits_one_card() -> None:
    answer = size(model(), "awq", "vllm", [RTX_4090], Demand(context=16384, users=4))
    assert answer.fits
    assert not answer.unknown
    assert not answer.advice
    assert answer.tensor_parallel == 1
    assert answer.gpu_memory_utilization == 0.9
    assert answer.max_num_seqs == 8
    assert answer.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2
    assert answer.max_users is not None
    assert answer.max_users >= 4
    assert answer.max_context is not None
    assert answer.max_context > 16384


def test_the_parts_add_up_and_the_kv_cache_is_the_formula() -> None:
    gpu = size(model(), "bf16", "vllm", [H100], Demand(context=16384, users=10)).per_gpu
    assert gpu is not None
    assert gpu.total == gpu.weights + gpu.kv_cache + gpu.activations + gpu.graphs + gpu.reserve
    assert gpu.kv_cache == 10 * 16384 * 131072 // memory.MIB
    assert gpu.memory == H100.memory


def test_the_answers_are_the_border() -> None:
    asked = Demand(context=16384, users=15)
    answer = size(model(), "bf16", "vllm", [H100], asked)
    assert answer.max_users is not None
    assert answer.max_context is not None
    at = {n: size(model(), "bf16", "vllm", [H100], Demand(16384, answer.max_users + n)).fits for n in (0, 1)}
    assert at == {0: True, 1: False}
    longer = {
        n: size(model(), "bf16", "vllm", [H100], Demand(answer.max_context + n, 15)).fits for n in (0, 256)
    }
    assert longer == {0: True, 256: False}


def test_tensor_parallel_divides_weights_and_keys() -> None:
    one, two = (size(model(), "bf16", "vllm", [H100] * gpus, Demand(16384, 15)).per_gpu for gpus in (1, 2))
    assert one is not None
    assert two is not None
    assert two.weights == pytest.approx(one.weights / 2, abs=1)
    assert two.kv_cache == pytest.approx(one.kv_cache / 2, abs=1)
    assert two.reserve > one.reserve


def test_keys_are_repeated_where_there_are_more_gpus_than_heads_of_them() -> None:
    narrow = model(kv_heads=2)
    two, four = (size(narrow, "awq", "vllm", [RTX_4090] * gpus, Demand(16384, 4)).per_gpu for gpus in (2, 4))
    assert two is not None
    assert four is not None
    assert four.kv_cache == two.kv_cache


@pytest.mark.parametrize(
    ("heads", "kv_heads", "gpus", "used"), [(40, 8, 3, 2), (28, 4, 3, 2), (32, 8, 5, 4), (6, 6, 4, 3)]
)
def test_heads_decide_how_many_gpus_can_be_used(heads: int, kv_heads: int, gpus: int, used: int) -> None:
    answer = size(model(heads=heads, kv_heads=kv_heads), "awq", "vllm", [RTX_4090] * gpus, Demand(4096, 1))
    assert answer.tensor_parallel == used


def test_the_smallest_card_decides() -> None:
    small = Card("small", 12288, compute_capability=8.9)
    mixed = size(model(), "awq", "vllm", [RTX_4090, small], Demand(8192, 4)).per_gpu
    assert mixed is not None
    assert mixed.memory == 12288


def test_a_window_keeps_less() -> None:
    whole = size(model(), "awq", "vllm", [RTX_4090], Demand(65536, 1)).per_gpu
    windowed = size(model(window_layers=24, window=1024), "awq", "vllm", [RTX_4090], Demand(65536, 1)).per_gpu
    assert whole is not None
    assert windowed is not None
    # 8 layers of everything and 24 of 1024 and two batches of 2048.
    assert windowed.kv_cache == pytest.approx(4096 / memory.MIB * (8 * 65536 + 24 * 5136), abs=1)
    assert windowed.kv_cache < whole.kv_cache / 3


def test_latent_attention_is_repeated_on_every_gpu() -> None:
    latent = model(kv_heads=None, head_size=None, latent={"rank": 512, "rope": 64})
    one, two = (size(latent, "awq", "vllm", [RTX_4090] * gpus, Demand(65536, 1)) for gpus in (1, 2))
    assert one.kv_bytes_per_token == 32 * 576 * 2
    assert one.per_gpu is not None
    assert two.per_gpu is not None
    assert one.per_gpu.kv_cache == two.per_gpu.kv_cache == 65536 * 32 * 576 * 2 // memory.MIB


def test_other_layers_keep_a_state_of_constant_size() -> None:
    hybrid = model(cached_layers=8, state_bytes=96 * memory.MIB)
    gpu = size(hybrid, "awq", "vllm", [RTX_4090], Demand(16385, 2)).per_gpu
    assert gpu is not None
    # 24 layers of 4 MiB, so that a block of one layer is 1024 tokens of 4 KiB: 17 blocks.
    assert gpu.kv_cache == 2 * (17 * 1024 * 8 * 4096 // memory.MIB + 2 * 96)


def test_an_encoder_keeps_nothing() -> None:
    encoder = model(kind="embedding", cached_layers=0)
    answer = size(encoder, "awq", "vllm", [RTX_4090], Demand(8192, 15))
    assert answer.fits
    assert answer.kv_bytes_per_token == 0
    assert answer.per_gpu is not None
    assert answer.per_gpu.kv_cache == 0


def test_a_share_of_a_gpu() -> None:
    part = Card("rtx-4090", 24564, share=0.4, compute_capability=8.9)
    answer = size(model(gib=9), "awq", "vllm", [part], Demand(4096, 2))
    assert answer.per_gpu is not None
    assert answer.per_gpu.memory == int(24564 * 0.4)
    assert answer.gpu_memory_utilization == 0.36
    assert answer.fits


@pytest.mark.parametrize(
    ("absent", "gpus"),
    [("layers", 1), ("hidden", 1), ("vocabulary", 1), ("kv_heads", 1), ("head_size", 1), ("heads", 2)],
)
def test_nothing_is_guessed(absent: str, gpus: int) -> None:
    answer = size(model(**{absent: None}), "awq", "vllm", [RTX_4090] * gpus, Demand(4096, 1))
    assert absent in answer.unknown
    assert not answer.fits
    assert answer.per_gpu is None
    assert answer.max_users is None
    assert answer.max_context is None


def test_unknown_weights_window_and_state() -> None:
    known = {"awq": form(5)}
    unknown = {"awq": form(None)}
    demand = Demand(4096, 1)
    assert size(model(forms=unknown), "awq", "vllm", [RTX_4090], demand).unknown == ("size of the weights",)
    windowed = model(forms=known, window_layers=4)
    assert size(windowed, "awq", "vllm", [RTX_4090], demand).unknown == ("window",)
    hybrid = model(forms=known, cached_layers=8)
    assert size(hybrid, "awq", "vllm", [RTX_4090], demand).unknown == ("state_bytes",)


def test_fp8_needs_a_gpu_that_computes_in_it() -> None:
    old = size(model(), "fp8", "vllm", [RTX_3090], Demand(4096, 2))
    assert not old.fits
    assert any("compute capability 8.6" in advice for advice in old.advice)
    assert any("awq fits" in advice for advice in old.advice)
    assert size(model(), "fp8", "vllm", [RTX_4090], Demand(4096, 2)).fits
    nameless = size(model(), "fp8", "vllm", [Card("?", 24564)], Demand(4096, 2))
    assert nameless.unknown == ("compute capability of ?",)


def test_on_other_makers_gpus_ollama_alone_is_computed() -> None:
    radeon = Card("rx-7900-xtx", 24560, vendor="amd")
    vllm = size(model(), "awq", "vllm", [radeon], Demand(4096, 2))
    assert vllm.unknown == ("what vllm takes of rx-7900-xtx",)
    assert not vllm.fits
    assert size(model(), "q4_k_m", "ollama", [radeon], Demand(4096, 2)).fits


def test_an_fp8_kv_cache_takes_half_and_needs_such_a_gpu() -> None:
    wide, half = (
        size(model(), "awq", "vllm", [RTX_4090], Demand(16384, 4, kind)).per_gpu for kind in ("auto", "fp8")
    )
    assert wide is not None
    assert half is not None
    assert half.kv_cache * 2 == wide.kv_cache
    assert not size(model(), "awq", "vllm", [RTX_3090], Demand(16384, 4, "fp8")).fits


def test_more_than_the_longest_context_does_not_fit() -> None:
    answer = size(model(context=8192), "awq", "vllm", [H100], Demand(16384, 1))
    assert not answer.fits
    assert answer.max_context == 8192
    assert answer.advice == ("its longest context is 8192 tokens",)


def test_advice_is_true() -> None:
    demand = Demand(context=16384, users=15)
    answer = size(model(), "bf16", "vllm", [RTX_4090], demand)
    assert not answer.fits
    assert any("GPU" in advice or "would do" in advice for advice in answer.advice)
    assert answer.max_users
    assert f"{answer.max_users} users at once fit, at 16384 tokens each" in answer.advice
    assert size(model(), "bf16", "vllm", [RTX_4090], Demand(16384, answer.max_users)).fits
    for advice in answer.advice:
        if advice.startswith("quantization "):
            assert size(model(), advice.split()[1], "vllm", [RTX_4090], demand).fits


def test_kv_cache_is_proposed_in_fewer_bits() -> None:
    tight = size(model(), "awq", "vllm", [RTX_4090], Demand(16384, 10))
    assert "kv_cache fp8 fits" in tight.advice
    ollama = size(model(), "q4_k_m", "ollama", [RTX_4090], Demand(16384, 12))
    assert "kv_cache q8_0 fits" in ollama.advice


def test_best_takes_the_best_form_that_fits() -> None:
    assert best(model(), "vllm", [H100], Demand(8192, 4)).quantization == "bf16"
    assert best(model(), "vllm", [RTX_4090], Demand(8192, 8)).quantization == "fp8"
    assert best(model(), "vllm", [RTX_3090], Demand(8192, 8)).quantization == "awq"
    assert best(model(), "ollama", [RTX_4090], Demand(8192, 4)).quantization == "q4_k_m"


def test_best_gives_the_closest_where_nothing_fits() -> None:
    answer = best(model(gib=150), "vllm", [RTX_4090], Demand(8192, 4))
    assert not answer.fits
    assert answer.quantization == "awq"
    assert answer.max_users == 0
    assert any("would do" in advice for advice in answer.advice)
    partly = model(forms={"bf16": form(None), "awq": form(60)})
    assert best(partly, "vllm", [RTX_4090], Demand(8192, 4)).quantization == "awq"


def test_alternatives_are_what_fits_the_largest_first() -> None:
    models = {
        entry.id: entry
        for entry in (
            model("huge", gib=150, total=70),
            model("eight", total=8),
            model("four", gib=8, total=4),
            model("vectors", kind="embedding", gib=1, total=0.5),
        )
    }
    found = alternatives(models, "vllm", [RTX_4090], Demand(8192, 4))
    assert [sizing.model for sizing in found] == ["eight", "four"]


def test_ollama_uses_as_few_gpus_as_it_fits_on() -> None:
    one = size(model(), "q4_k_m", "ollama", [RTX_4090] * 2, Demand(8192, 4))
    assert one.tensor_parallel == 1
    assert one.gpu_memory_utilization is None
    assert one.max_num_seqs == 4
    two = size(model(gib=75), "q4_k_m", "ollama", [RTX_4090] * 2, Demand(8192, 4))
    assert two.fits
    assert two.tensor_parallel == 2
    assert two.per_gpu is not None
    # 33 layers with the output: one GPU gets 17 of them.
    assert two.per_gpu.weights == pytest.approx(25 * 1024 * memory.LOADED * 17 / 33, abs=2)


def test_ollama_keeps_keys_for_every_slot() -> None:
    answer = size(model(), "q4_k_m", "ollama", [RTX_4090], Demand(8192, 4, "q8_0"))
    assert answer.per_gpu is not None
    assert answer.per_gpu.kv_cache == 4 * 8192 * 32 * 2048 * 34 // 32 // memory.MIB


def test_sglang_gets_the_fraction_of_weights_and_keys() -> None:
    vllm, sglang = (
        size(model(), "awq", engine, [RTX_4090], Demand(8192, 4)) for engine in ("vllm", "sglang")
    )
    assert vllm.per_gpu == sglang.per_gpu
    assert vllm.gpu_memory_utilization is not None
    assert sglang.gpu_memory_utilization is not None
    assert 0.7 < sglang.gpu_memory_utilization < vllm.gpu_memory_utilization


def test_several_on_one_ollama_are_summed() -> None:
    small = (model("small", gib=15), "q4_k_m", Demand(8192, 2))
    both = size_together([small, small], [RTX_4090])
    assert both.fits
    (card,) = both.cards
    alone = both.sizings[0].per_gpu
    assert alone is not None
    assert card.total == 2 * alone.total
    four = size_together([small] * 4, [RTX_4090])
    assert not four.fits
    assert all(sizing.fits for sizing in four.sizings)
    assert four.advice
    assert size_together([small] * 4, [RTX_4090, RTX_4090]).fits


def test_together_with_one_that_is_unknown() -> None:
    known = (model(), "q4_k_m", Demand(8192, 2))
    unknown = (model(layers=None), "q4_k_m", Demand(8192, 2))
    answer = size_together([known, unknown], [RTX_4090])
    assert not answer.fits
    assert answer.cards == ()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: size(model(), "nvfp4", "vllm", [H100], Demand(4096, 1)), "no form nvfp4"),
        (lambda: size(model(), "awq", "tgi", [H100], Demand(4096, 1)), "no engine"),
        (lambda: size(model(), "awq", "vllm", [H100], Demand(4096, 1, "q8_0")), "q8_0"),
        (lambda: size(model(), "awq", "vllm", [], Demand(4096, 1)), "no GPU"),
        (lambda: size(model(), "awq", "vllm", [H100], Demand(4096, 0)), "one user"),
        (lambda: best(model(forms={"awq": form(5)}), "ollama", [H100], Demand(4096, 1)), "serves no form"),
    ],
)
def test_bad_input(call: Any, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        call()


def test_a_form_that_the_engine_does_not_serve() -> None:
    answer = size(model(), "awq", "ollama", [H100], Demand(4096, 1))
    assert not answer.fits
    assert answer.advice[0] == "ollama does not serve eight in the form awq"


shapes = st.fixed_dictionaries(
    {
        "layers": st.integers(4, 100),
        "hidden": st.sampled_from([1024, 4096, 8192]),
        "heads": st.sampled_from([16, 32, 64]),
        "kv_heads": st.sampled_from([1, 2, 4, 8, 16]),
        "head_size": st.sampled_from([64, 128, 256]),
        "vocabulary": st.integers(32_000, 262_144),
        "context": st.just(1 << 18),
    },
    optional={"window_layers": st.integers(0, 4), "window": st.sampled_from([128, 1024, 4096])},
).map(lambda shape: shape if "window" in shape else {k: v for k, v in shape.items() if k != "window_layers"})
engines = st.sampled_from([("vllm", "awq"), ("sglang", "awq"), ("ollama", "q4_k_m")])
cards = st.builds(
    lambda gib, share, count: [Card("x", gib * 1024, share=share, compute_capability=9.0)] * count,
    st.sampled_from([12, 24, 48, 80, 141]),
    st.sampled_from([0.3, 0.5, 1.0]),
    st.sampled_from([1, 2, 4]),
)
demands = st.builds(Demand, st.integers(256, 131072), st.integers(1, 200))


def needed(answer: Sizing) -> int:
    assert answer.per_gpu is not None
    return answer.per_gpu.total * answer.tensor_parallel


@settings(deadline=None, max_examples=60)
@given(
    shape=shapes,
    gib=st.floats(0.5, 300),
    engine=engines,
    cards=cards,
    demand=demands,
    more=st.integers(1, 100),
)
def test_more_users_and_more_context_never_need_less(
    shape: dict[str, int], gib: float, engine: tuple[str, str], cards: list[Card], demand: Demand, more: int
) -> None:
    entry = model(gib=gib, **shape)
    name, quantization = engine
    before = size(entry, quantization, name, cards, demand)
    users = size(entry, quantization, name, cards, Demand(demand.context, demand.users + more))
    context = size(entry, quantization, name, cards, Demand(demand.context + 64 * more, demand.users))
    for after in (users, context):
        assert needed(after) >= needed(before)
        assert before.fits or not after.fits


@settings(deadline=None, max_examples=60)
@given(shape=shapes, gib=st.floats(0.5, 300), engine=engines, cards=cards, demand=demands)
def test_what_it_says_fits(
    shape: dict[str, int], gib: float, engine: tuple[str, str], cards: list[Card], demand: Demand
) -> None:
    entry = model(gib=gib, **shape)
    name, quantization = engine
    answer = size(entry, quantization, name, cards, demand)
    assert answer.max_users is not None
    assert answer.max_context is not None
    assert answer.fits == (answer.max_users >= demand.users)
    if answer.max_users:
        assert size(entry, quantization, name, cards, Demand(demand.context, answer.max_users)).fits
    if answer.max_context:
        assert size(entry, quantization, name, cards, Demand(answer.max_context, demand.users)).fits


def test_ollama_may_take_more_gpus_for_more_users() -> None:
    asked = Demand(8192, 1)
    answer = size(model(gib=36), "q4_k_m", "ollama", [RTX_4090] * 2, asked)
    alone = size(model(gib=36), "q4_k_m", "ollama", [RTX_4090], asked)
    assert answer.tensor_parallel == 1
    assert answer.max_users is not None
    assert alone.max_users is not None
    assert answer.max_users > 2 * alone.max_users
