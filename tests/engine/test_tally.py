"""What is counted of each image, against scikit-learn and by hand; the page of mistakes needs nothing but itself."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, recall_score, top_k_accuracy_score

from xlatrain.engine.answers import Judged, log_softmax
from xlatrain.engine.contract import Answers
from xlatrain.engine.details.page import MOST_BYTES, write_page
from xlatrain.engine.details.pictures import draw_confusion, draw_reliability
from xlatrain.engine.details.tally import BINS, Mistake, Tally
from xlatrain.engine.details.thumbnails import Thumbnail, as_address


def judged(logits, labels, skipped=None, first=0):
    skipped = np.zeros(len(labels), bool) if skipped is None else np.array(skipped)
    numbers = np.arange(first, first + len(labels))
    return Judged(numbers, log_softmax(np.array(logits, np.float32)), np.array(labels), skipped)


@pytest.fixture
def random_answers():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 7, 500)
    logits = generator.normal(size=(500, 7)) * 2
    logits[np.arange(500), labels] += 1.5
    return logits.astype(np.float32), labels


def test_counts_are_those_of_scikit_learn(random_answers):
    logits, labels = random_answers
    tally = Tally(7, 20)
    for start in range(0, 500, 64):
        tally.add(judged(logits[start : start + 64], labels[start : start + 64], first=start))
    predicted, probabilities = logits.argmax(1), np.exp(log_softmax(logits))
    assert (tally.confusion == confusion_matrix(labels, predicted)).all()
    assert np.allclose(np.diag(tally.confusion) / tally.images, recall_score(labels, predicted, average=None))
    sums = tally.sums()
    assert sums["top1"] / 500 == pytest.approx(np.mean(predicted == labels))
    assert sums["top5"] / 500 == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    assert sums["loss"] / 500 == pytest.approx(log_loss(labels, probabilities), rel=1e-6)
    assert (sums["examples"], sums["skipped"]) == (500, 0)
    sure, error = probabilities.max(1), 0.0
    for low in range(BINS):
        inside = (sure > low / BINS) & (sure <= (low + 1) / BINS)
        if inside.any():
            error += inside.mean() * abs((predicted == labels)[inside].mean() - sure[inside].mean())
    assert tally.calibration_error() == pytest.approx(error)
    wrong = np.flatnonzero(predicted != labels)
    surest = sorted(wrong, key=lambda i: -sure[i])[:20]
    assert [m.number for m in tally.mistakes] == surest
    assert tally.mistakes[0].confidence == pytest.approx(sure[surest[0]])


def test_ties_count_against_the_model_and_undecodable_images_not_at_all():
    tally = Tally(3, 5)
    tally.add(judged([[1, 1, 0], [0, 0, 0], [9, 0, 0]], [0, 2, 0], [False, False, True]))
    assert (tally.sums()["top1"], tally.sums()["examples"], tally.skipped) == (0, 2, 1)
    assert tally.confusion.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    tally.add(judged([[np.nan] * 3], [1]))
    assert (tally.sums()["top1"], tally.sums()["examples"]) == (0, 3)


def test_an_ensemble_is_the_mean_of_probabilities():
    one, two = (np.array(logits, np.float32) for logits in ([[3, 0, 0]], [[0, 2.5, 0]]))
    members = [Answers(np.array([4]), logits, np.array([1]), np.array([False])) for logits in (one, two)]
    found = Judged.of(members)
    mean = (np.exp(log_softmax(one)) + np.exp(log_softmax(two))) / 2
    assert np.allclose(np.exp(found.scores), mean, rtol=1e-12)
    assert (found.numbers, found.labels) == (np.array([4]), np.array([1]))


def test_numbers_of_images_travel_exactly_in_float32():
    numbers = np.array([-1, 0, 4095, 4096, 2**24 + 1, 2**31 + 12345])
    high, low = Answers.numbered(numbers).numpy().astype(np.int64).T
    assert ((high << 12) + low)[1:].tolist() == numbers[1:].tolist()
    assert (high << 12)[0] + low[0] == -1


def page(tmp_path, mistakes, thumbnails, names):
    member = SimpleNamespace(config=SimpleNamespace(weights="w.safetensors"))
    config = SimpleNamespace(
        model=SimpleNamespace(name="net"), data=SimpleNamespace(name="shards", image_size=160)
    )
    tally = Tally(len(names), 500)
    tally.confusion[0, 1] = len(mistakes)
    tally._mistakes = mistakes
    result = {"top1": 0.5, "top5": 0.9, "loss": 1.0, "eval_examples": 9}
    evaluation = SimpleNamespace(config=config, each=[member])
    shown = write_page(tmp_path / "page.html", evaluation, tally, names, result, thumbnails)
    return shown, (tmp_path / "page.html").read_text()


def test_the_page_is_whole_by_itself_and_names_are_text(tmp_path):
    mistakes = [Mistake(0, 0, 1, 0.99999, 0.00001)]
    picture = Thumbnail(as_address(np.zeros((8, 8, 3), np.uint8)), "x/<b>'\udcff.jpg")
    shown, text = page(tmp_path, mistakes, [picture], ["cat", "<script>alert(1)</script>"])
    assert shown == 1
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"https?:|url\(|@import|<link", text)
    assert "&gt; 99.9 %" in text
    assert "&lt; 0.1 %" in text


def test_the_page_holds_as_many_mistakes_as_two_megabytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    picture = Thumbnail(as_address(noise), "n" * 5000)
    shown, text = page(tmp_path, [Mistake(i, 0, 1, 0.9, 0.1) for i in range(400)], [picture] * 400, ["a", "b"])
    assert 20 < shown < 400
    assert f"{shown} of 400 mistakes" in text
    assert len(text.encode()) <= MOST_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 40, 120])
def test_pictures_are_drawn_of_few_and_of_many_classes(classes, tmp_path):
    tally = Tally(classes, 5)
    tally.add(judged(np.eye(classes)[[0, 1, 2]], [0, 1, 1]))
    draw_confusion(tally.confusion, ["$odd^name"] + ["x" * 50] * (classes - 1), tmp_path / "c.png")
    draw_reliability(tally, tmp_path / "r.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("c.png", "r.png"))
