"""Types for the origin of a dataset: its owners and terms, and the files that are needed from its archives or folders."""

from dataclasses import dataclass

# Descriptions of the kinds of files in `Wanted.single`.
MATLAB, JSON, JSON_GZ = "a MATLAB file", "a JSON file", "a compressed JSON file"


@dataclass(frozen=True)
class Origin:
    """A dataset's owners, terms of use and publication. The terms are a summary; only the owners' own text is binding."""

    name: str
    page: str
    owners: str
    terms: str
    bibtex: str

    def text(self) -> str:
        """Return the text that is printed when the dataset has been fetched, and stored with its files as CITATION.txt."""
        return (
            f"{self.name}, {self.page}\nOwners: {self.owners}.\nTerms: {self.terms}\n"
            f"Publications that use it cite:\n\n{self.bibtex}\n"
        )


@dataclass(frozen=True)
class Part:
    """A folder of many files, such as images/. The source given by the user is this folder or a folder that contains it."""

    name: str  # name of the symlink to this folder in the stage's result folder
    pattern: str  # regular expression of the names of the needed files in this folder or its subfolders
    inner: str = ""  # regular expression of the subfolders' names, if the files are in subfolders; "": no subfolders
    named: bool = False  # true if the folder on the user's disk must also be called `name`


@dataclass(frozen=True)
class Wanted:
    """The files that are needed from one source, which may be an archive, a folder or a single file."""

    # Regular expression of the needed members, if the source is an archive. The group `to` is the path below the result's
    # folder to which a member is written; members that match the group `images` are written to images/ instead.
    members: str
    expected: str  # the names of the needed files, for messages
    parts: tuple[Part, ...] = ()  # if the source is a folder: subfolders of many files, which are linked, not copied
    copied: str = ""  # if the source is a folder: regular expression of the files that are copied, all from one folder
    into: str = ""  # subfolder of the result's folder to which all files are written; "": the folder itself
    single: tuple[tuple[str, str], ...] = ()  # if the source is a single file: (kind of file, its name in the result)
    in_sample: str = ""  # the file of the built-in sample that replaces this source; "": none
