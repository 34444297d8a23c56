"""Where a dataset comes from: its owners and terms, and which files of its archives or folders are needed."""

from dataclasses import dataclass

MATLAB, JSON, JSON_GZ = "a MATLAB file", "a JSON file", "a compressed JSON file"  # kinds of single files


@dataclass(frozen=True)
class Origin:
    """A dataset's owners, terms (in our words; the owners' own count) and publication."""

    name: str
    page: str
    owners: str
    terms: str
    bibtex: str

    def text(self) -> str:
        """Return the text that is shown when the dataset is first fetched, and kept beside its files."""
        return (
            f"{self.name}, {self.page}\nOwners: {self.owners}.\nTerms: {self.terms}\n"
            f"Publications that use it cite:\n\n{self.bibtex}\n"
        )


@dataclass(frozen=True)
class Part:
    """A folder of many files that stands in a dataset's folder, or is given itself."""

    name: str  # of its symlink in the result
    pattern: str  # regular expression of its files' names
    inner: str = ""  # regular expression of the folders between it and its files; "": its files stand in itself
    named: bool = False  # whether it is known by its name alone


@dataclass(frozen=True)
class Wanted:
    """The files that are needed of one source, whether it is an archive, a folder or a single file."""

    # Regular expression of an archive's members. Its group `to` is the path below the result's folder; members that match its
    # group `images` go to images/ instead.
    members: str
    expected: str  # the needed files in words
    parts: tuple[Part, ...] = ()  # of a folder, read in place
    copied: str = ""  # regular expression of a folder's single files, which are copied; all stand in one folder
    into: str = ""  # folder of the result in which all of it stands
    single: tuple[tuple[str, str], ...] = ()  # kinds of single files, and their names in the result
    in_sample: str = ""  # the file of the built-in sample that stands for this source; "": there is none
