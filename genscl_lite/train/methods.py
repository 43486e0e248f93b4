"""The rows of the table: an objective and its ingredients."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A row of the table: an objective and which ingredients it has."""

    title: str
    objective: str
    """"cross_entropy" (a classifier), "instance" (SimCLR: every image its own class) or "label" (SupCon, GenSCL)."""
    mixes: bool = False
    distils: bool = False
    queues: bool = False


METHODS = {
    "teacher": Method("Teacher: CE + MixUp-CutMix", "cross_entropy", mixes=True),
    "ce": Method("CE", "cross_entropy"),
    "ce_mix": Method("CE + MixUp-CutMix", "cross_entropy", mixes=True),
    "ce_mix_kd": Method("CE + MixUp-CutMix + KD", "cross_entropy", mixes=True, distils=True),
    "simclr": Method("SimCLR", "instance"),
    "supcon": Method("SupCon", "label"),
    "genscl_kd": Method("GenSCL + KD", "label", distils=True),
    "genscl_mix": Method("GenSCL + MixUp-CutMix", "label", mixes=True),
    "genscl_mix_kd": Method("GenSCL + MixUp-CutMix + KD", "label", mixes=True, distils=True),
    "genscl_mix_kd_queue": Method("GenSCL + both, momentum and queue", "label", mixes=True, distils=True, queues=True),
}
