"""Settings: the published recipe, legal ranges, error messages for wrong values, and luigi.cfg."""

import configparser
from pathlib import Path

import pytest

from datasets.errors import DataError
from stages.settings import luigi_cfg
from stages.settings.recipes import Recipe
from stages.settings.sections import Network, Settings
from stages.settings.trainings import Finetuning, Training

ROOT = Path(__file__).resolve().parents[3]
LUIGI = {"core", "retcode"}
TRAININGS = {"pretrain", "finetune", "forecast", "train_converter"}


def read_sections(text):
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections() if name not in LUIGI}


def test_defaults_are_the_published_recipe():
    # The published scripts train 100 epochs of 4000 batches of 6 on MPII, and 10 epochs of 13121 batches of 6 on Penn Action,
    # both by RMSprop with the learning rate 2.5e-4.
    s = Settings()
    assert (s.pretrain.epochs, s.pretrain.iterations, s.pretrain.batch) == (100, 4000, 6)
    assert (s.finetune.epochs, s.finetune.iterations, s.finetune.batch) == (10, 13121, 6)
    assert s.pretrain.learning_rate == s.finetune.learning_rate == 2.5e-4
    assert (s.network.stacks, s.network.features, s.network.depth) == (1, 256, (4,))
    assert (s.input.resolution, s.input.heatmap, s.pretrain.target_sigma, s.pretrain.target_radius) == (256, 64, 3.25, 6)
    assert (s.pretrain.rotation_std, s.pretrain.rotation_probability, s.pretrain.scale_std) == (30, 0.4, 0.25)
    for t in (s.pretrain, s.finetune):
        assert (t.crop, t.targets, t.sampling, t.flip_probability, t.flip_by) == (
            "published",
            "truncated",
            "consecutive",
            0.5,
            "batch",
        )
        assert (t.rotate180_probability, t.cutout_probability, t.subtract_mean, t.occluded_weight, t.unlabelled_weight) == (
            0,
            0,
            False,
            1,
            1,
        )
    assert s.finetune.head == "random" and s.pretrain.seed == 3


def test_luigi_cfg_lists_every_setting_at_its_default():
    written = read_sections((ROOT / "luigi.cfg").read_text())
    assert Settings.from_text(written) == Settings()
    for name, section in Settings.defaults().items():
        settings = set(type(section).model_fields)
        assert set(written[name]) == (settings - set(Recipe.model_fields) if name in TRAININGS else settings), name
    assert set(written["recipe:published"]) == set(Recipe.model_fields)
    assert all(field.description for section in Settings.defaults().values() for field in type(section).model_fields.values())


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.5e-4, "0.00025"), (1e-12, "0.000000000001"), (5.0, "5"), (30, "30"), (True, "true"), ((0.6, 0.9), "0.6 0.9")],
)
def test_a_value_is_written_without_loss(value, text):
    assert luigi_cfg.in_words(value) == text


def test_luigi_cfg_is_written_by_the_command_settings():
    assert luigi_cfg.text() == (ROOT / "luigi.cfg").read_text()


@pytest.mark.parametrize("profile", sorted((ROOT / "configs").glob("*.cfg")), ids=lambda p: p.name)
def test_profiles_are_legal(profile):
    Settings.from_text(read_sections(profile.read_text()))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"finetune": {"learning_rat": "1"}}, ["[finetune]", "learning_rat", "Did you mean learning_rate?"]),
        ({"finetune": {"learning_rate": "-1"}}, ["[finetune]", "learning_rate = -1", "greater than 0"]),
        ({"finetune": {"learning_rate": "nan"}}, ["learning_rate = nan", "finite"]),
        ({"pretrain": {"batch": "1.5"}}, ["[pretrain]", "batch = 1.5", "integer"]),
        ({"pretrain": {"schedule": "linear"}}, ["schedule = linear", "'constant', 'step' or 'cosine'"]),
        ({"recipe:modern": {"milestones": "0.5 1.5"}}, ["[recipe:modern]", "milestones = 1.5", "less than 1"]),
        ({"pretrain": {"recipe": "moden"}}, ["[pretrain]", "recipe = moden", "Did you mean modern?", "published, modern"]),
        ({"recipe:mine": {"base": "moden"}}, ["[recipe:mine] base = moden", "Did you mean modern?"]),
        ({"recipe:a": {"base": "b"}, "recipe:b": {"base": "a"}}, ["base = ", "built on itself"]),
        ({"recipe:published": {"base": "modern"}}, ["[recipe:published] base = modern", "has no base"]),
        ({"recipe:mine": {"epochs": "3"}}, ["[recipe:mine]", "unknown setting epochs"]),
        ({"recipe": {}}, ["unknown section [recipe]", "recipe:NAME"]),
        ({"pretrain": {"experiment": "../evil"}}, ["experiment = ../evil"]),
        ({"finetun": {}}, ["[finetun]", "Did you mean finetune?"]),
        ({"input": {"resolution": "100"}}, ["resolution = 100", "multiple of 64"]),
        ({"workspace": {"exp": ""}}, ["[workspace]", "exp"]),
        ({"network": {"preset": "hg256"}}, ["[network]", "preset hg256", "Did you mean hg-256?", "hg-stacked"]),
        ({"network": {"depth": "4 x"}}, ["[network]", "depth = x", "integer"]),
        ({"network": {"depth": "4 3", "stacks": "3"}}, ["depth has 2 numbers", "3 stacks"]),
        ({"network": {"residuals": "1 2"}}, ["residuals", "four"]),
        ({"network": {"stem": "64 127"}}, ["stem = 127", "multiple of 2"]),
        ({"network": {"preset": "hg-single", "stacks": "2"}}, ["join = sum", "512", "256"]),
        ({"network": {"stacks": "2", "depth": "2 5"}, "input": {"resolution": "64"}}, ["depth = 5", "multiple of 128"]),
        ({"network": {"norm": "instance"}, "input": {"resolution": "64"}}, ["norm = instance", "smaller depth"]),
        (
            {"pretrain": {"batch": "3", "gradient_accumulation": "2"}, "input": {"resolution": "64"}},
            ["norm = batch", "a larger micro-batch"],
        ),
        ({"pretrain": {"experiment": "a"}, "finetune": {"experiment": "a"}}, ["experiment = a", "choose different names"]),
        ({"lspet": {"archive": "sample"}}, ["[lspet]", "archive = sample", "a path or an address"]),
        ({"flic": {"sides": "mirror"}}, ["[flic]", "'person' or 'observer'"]),
    ],
)
def test_wrong_settings_are_named_with_the_legal_ones(texts, words):
    with pytest.raises(DataError) as caught:
        Settings.from_text(texts)
    for word in words:
        assert word in str(caught.value)


def test_a_preset_is_its_options_written_out():
    empty = dict.fromkeys(read_sections((ROOT / "luigi.cfg").read_text())["network"], "")
    assert Network(**empty) == Network()
    options = {"stacks": "2", "stem": "64 128 128 128", "outputs": "512", "residuals": "3, 3, 1, 1", "head_layers": "2"}
    written = Network(**empty | options | {"join": "concatenate"})
    assert Network(preset="hg-stacked").significant() == written.significant()
    assert Network(stacks=2, depth="4 4").significant() == Network(preset="hg-generic").significant()
    assert Network(preset="hg-512", features="64").significant() == Network(features=64).significant()
    growing = Network(preset="hg8-64-growing")
    assert growing.depth == (2, 2, 2, 3, 3, 3, 4, 4) and Network(**growing.significant()).significant() == growing.significant()


def test_only_what_changes_results_is_significant():
    assert "experiment" not in Training().significant()
    assert Finetuning(experiment="other").significant() == Finetuning().significant()
    assert Finetuning(head="matching").significant() != Finetuning().significant()
    assert Settings().workspace.significant() == {}


def test_a_training_takes_missing_settings_from_its_recipe():
    s = Settings.from_text(
        {
            "recipe:modern": {"colour_jitter": "0.5", "flip_probability": "0.1"},
            "pretrain": {"recipe": "modern", "flip_probability": "0.4"},
            "recipe:published": {"scale_std": "0.1"},
        }
    )
    assert (s.pretrain.colour_jitter, s.pretrain.flip_probability) == (0.5, 0.4)
    assert s.pretrain.learning_rate == s.recipes["modern"].learning_rate != s.recipes["published"].learning_rate
    assert (s.finetune.colour_jitter, s.finetune.scale_std, s.finetune.learning_rate) == (0.2, 0.1, 0.00025)


def test_a_recipe_has_the_settings_of_its_base_but_for_its_own():
    mine = {"recipe:gentle": {"base": "strong", "scale_std": "0.1"}, "recipe:strong": {"base": "modern", "rotation_std": "45"}}
    s = Settings.from_text(mine | {"pretrain": {"recipe": "gentle"}})
    assert (s.pretrain.scale_std, s.pretrain.rotation_std, s.pretrain.ema, s.pretrain.colour_jitter) == (0.1, 45, 0.999, 0.2)
    assert s.finetune == Settings().finetune and set(s.recipes) == {*Settings().recipes, "gentle", "strong"}


def test_recipes_with_equal_settings_are_equal():
    published = Settings().recipes["published"].model_dump() | {"milestones": "0.6 0.9"}
    same = Settings.from_text({"recipe:modern": {n: str(v) for n, v in published.items()}, "pretrain": {"recipe": "modern"}})
    assert same.pretrain.significant() == Settings().pretrain.significant()
