"""The settings of Slurm jobs: how they become parameters of submitit, and the sections for single stages."""

import pytest

from datasets.errors import DataError
from stages.settings.sections import Settings
from stages.settings.slurm import Slurm


def test_parameters_of_submitit():
    found = Slurm(partition="gpu", gpus=2, cpus=6, memory=1.5, options="account=vision qos=low exclusive").for_submitit()
    assert found == {
        "partition": "gpu", "gpus_per_node": 2, "cpus_per_task": 6, "mem": "1500M",
        "additional_parameters": {"account": "vision", "qos": "low", "exclusive": True},
    }  # fmt: skip
    assert Slurm(gpus=0, memory=0).for_submitit().keys() == {"cpus_per_task", "additional_parameters"}


def test_the_longest_name_that_fits_a_stage_holds_and_the_rest_is_as_in_the_common_section():
    settings = Settings.from_text(
        {
            "slurm": {"time": "60", "cpus": "3"},
            "slurm:EvaluatePenn": {"time": "10"},
            "slurm:EvaluatePenn:finetuned": {"gpus": "0"},
        }
    )
    of = settings.slurm_of
    assert [of(name).time for name in ("PretrainMpii", "EvaluatePenn:pretrained", "EvaluatePennX")] == [60, 10, 60]
    assert (of("EvaluatePenn:finetuned").gpus, of("EvaluatePenn:finetuned").time, of("EvaluatePenn:pretrained").cpus) == (
        0,
        60,
        3,
    )


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("slurm", {"options": "account vision;rm"}, "NAME=VALUE"),
        ("slurm", {"time": "1"}, "greater than or equal to 5"),
        ("slurm:PretrainMpii", {"gpu": "1"}, r"\[slurm:PretrainMpii\].*Did you mean gpus"),
    ],
)
def test_wrong_settings_are_named(section, values, words):
    with pytest.raises(DataError, match=words):
        Settings.from_text({section: values})
