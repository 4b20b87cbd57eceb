"""A goal is a comparison that can come true, and one that cannot is refused with its cure."""

import pytest

from xlatrain.config.comparison import quote_comparisons
from xlatrain.config.override import parse_override
from xlatrain.preflight.until import parse_until, until_faults


@pytest.mark.parametrize(
    ("text", "met", "not_met"),
    [
        ("top1>=0.94", 0.94, 0.9399),
        (" top5 > 0.5 ", 0.51, 0.5),
        ("loss<0.3", 0.29, 0.3),
        ("loss<=1e-1", 0.1, 0.11),
        ("top1>=.5", 1.0, float("nan")),
        ("loss<9", 1.0, float("nan")),
    ],
)
def test_a_goal_is_met_from_its_value_on(text, met, not_met):
    until = parse_until(text)
    assert until.met({until.metric: met})
    assert not until.met({until.metric: not_met})
    assert until_faults(text) == []


@pytest.mark.parametrize(
    ("text", "problem", "cure"),
    [
        ("94%", "is no comparison", "top1>=0.94"),
        ("top1", "is no comparison", "top1>=0.94"),
        ("top1>=94", "a share of the images, from 0 to 1; is 0.94 meant?", "top1>=0.94"),
        ("top1<=0.5", "is to rise", ">= or >"),
        ("loss>=0.5", "is to fall", "<= or <"),
        ("top1==1", "does not wait", ">= or >"),
        ("top2>=0.5", "'top2' is nothing that an evaluation says", "top1, top5, loss"),
        ("top1>=high", "'high' is no number", "top1>=0.94"),
        ("top1>1", "can never be true", "top1>=0.94"),
        ("loss<nan", "can never be true", "top1>=0.94"),
        ("loss<-1", "can never be true", "top1>=0.94"),
        ("", "is no comparison", "top1>=0.94"),
    ],
)
def test_what_cannot_be_met_is_a_fault(text, problem, cure):
    (fault,) = until_faults(text)
    assert fault.key == "train.until"
    assert problem in fault.problem
    assert cure in fault.cure


@pytest.mark.parametrize("value", ["top1>=0.94", "loss < 1e-3", "'top5>0.5'"])
def test_a_goal_is_typed_as_it_is(value):
    (word,) = quote_comparisons([f"train.until={value}"])
    assert parse_override(word).value() == value.strip("'")


def test_other_words_stay_as_they_are():
    words = ["run.name=a b", "optimizer.lr=1,2", "x>y", "--check", "photos/a>b.jpg", "train.until=top1>=0.1,top1>=0.2"]
    assert quote_comparisons(words) == words
