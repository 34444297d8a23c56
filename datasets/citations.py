"""Where each dataset comes from: whose it is, on what terms, and what to cite. One entry a dataset."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """A dataset's owners, terms (in our words; the owners' own count) and publication."""

    name: str
    page: str
    owners: str
    terms: str
    bibtex: str

    def text(self) -> str:
        """What is shown when the dataset is first fetched, and kept beside it."""
        return (
            f"{self.name}, {self.page}\nOwners: {self.owners}.\nTerms: {self.terms}\n"
            f"Publications that use it cite:\n\n{self.bibtex}\n"
        )


PHOTOGRAPHS = "we know of no licence. The photographs come from Flickr, so keep them to research and do not pass them on."

ORIGINS = {
    "mpii": Origin(
        name="MPII Human Pose",
        page="http://human-pose.mpi-inf.mpg.de",
        owners="Max Planck Institute for Informatics, Saarbrücken",
        terms=(
            "annotations and code are under the Simplified BSD License, free for research. The images come from YouTube videos "
            "whose rights the institute does not hold: no commercial use; ask its authors about any other purpose."
        ),
        bibtex="""\
@inproceedings{andriluka14cvpr,
  author = {Andriluka, Mykhaylo and Pishchulin, Leonid and Gehler, Peter and Schiele, Bernt},
  title = {{2D} Human Pose Estimation: New Benchmark and State of the Art Analysis},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2014}
}""",
    ),
    "penn_action": Origin(
        name="Penn Action",
        page="http://dreamdragon.github.io/PennAction/",
        owners="Weiyu Zhang, Menglong Zhu and Konstantinos G. Derpanis, University of Pennsylvania",
        terms=(
            "its owners publish no licence and ask for the citation below; the frames come from videos of others, so keep them "
            "to research and do not pass them on."
        ),
        bibtex="""\
@inproceedings{zhang13iccv,
  author = {Zhang, Weiyu and Zhu, Menglong and Derpanis, Konstantinos G.},
  title = {From Actemes to Action: A Strongly-Supervised Representation for Detailed Action Understanding},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year = {2013},
  pages = {2248--2255}
}""",
    ),
    "flic": Origin(
        name="FLIC, Frames Labeled in Cinema",
        page="https://bensapp.github.io/flic-dataset.html",
        owners="Ben Sapp and Ben Taskar, University of Pennsylvania; the films belong to their studios",
        terms="we know of no licence. The frames come from films, so keep them to research and do not pass them on.",
        bibtex="""\
@inproceedings{sapp13cvpr,
  author = {Sapp, Ben and Taskar, Ben},
  title = {{MODEC}: Multimodal Decomposable Models for Human Pose Estimation},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2013}
}""",
    ),
    "lsp": Origin(
        name="Leeds Sports Pose",
        page="http://sam.johnson.io/research/lsp.html",
        owners="Sam Johnson and Mark Everingham, University of Leeds; the photographs belong to members of Flickr",
        terms=PHOTOGRAPHS,
        bibtex="""\
@inproceedings{johnson10bmvc,
  author = {Johnson, Sam and Everingham, Mark},
  title = {Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation},
  booktitle = {British Machine Vision Conference (BMVC)},
  year = {2010}
}""",
    ),
    "lspet": Origin(
        name="Leeds Sports Pose Extended",
        page="http://sam.johnson.io/research/lspet.html",
        owners="Sam Johnson and Mark Everingham, University of Leeds; the photographs belong to members of Flickr",
        terms=PHOTOGRAPHS,
        bibtex="""\
@inproceedings{johnson11cvpr,
  author = {Johnson, Sam and Everingham, Mark},
  title = {Learning Effective Human Pose Estimation from Inaccurate Annotation},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2011}
}""",
    ),
}
