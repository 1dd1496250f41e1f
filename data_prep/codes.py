"""Where an input can end: the codes of the ledger and what each of them does."""

ACTIONS = {
    "WRITTEN": "written",
    "DUP_SAME": "duplicate",
    "SOP_CLASS": "excluded",
    "FOR_PROCESSING": "excluded",
    "NO_PIXELS": "excluded",
    "MULTIFRAME": "excluded",
    "COLOR": "excluded",
    "LABEL_MISSING": "excluded",
    "NO_PATIENT": "excluded",
    "DUP_CROSS": "quarantined",
    "GREY_RGB": "quarantined",
    "PHI_SUSPECT": "quarantined",
    "NOT_REGULAR": "dead",
    "OUTSIDE_ROOT": "dead",
    "TOO_BIG": "dead",
    "NOT_DICOM": "dead",
    "NOT_IMAGE": "dead",
    "TRUNCATED": "dead",
    "PARSE_LIMIT": "dead",
    "BAD_SYNTAX": "dead",
    "DIM_MISMATCH": "dead",
    "BOMB": "dead",
    "DECODE_ERROR": "dead",
    "HIGHBIT": "dead",
    "BAD_LUT": "dead",
    "BLANK": "dead",
    "LABEL_DUP": "dead",
    "ENCODE_ERROR": "dead",
    "CRASH": "dead",
    "CHANGED": "dead",
    "TIMEOUT": "dead",
    "OOM": "dead",
}
"""Code to action. Every listed file ends in exactly one of them."""

MEANINGS = {
    "WRITTEN": "written to a shard",
    "DUP_SAME": "the same picture of the same patient again",
    "SOP_CLASS": "no CR or DX image",
    "FOR_PROCESSING": "a detector image that is not for presentation",
    "NO_PIXELS": "no pixel data",
    "MULTIFRAME": "several frames",
    "COLOR": "a colour image",
    "LABEL_MISSING": "no row in the label table",
    "NO_PATIENT": "no PatientID, so no safe place in a split",
    "DUP_CROSS": "the same picture under two patients",
    "GREY_RGB": "grey stored as colour, may carry burned-in text",
    "PHI_SUSPECT": "the header says burned-in or saved-screen content",
    "NOT_REGULAR": "cannot be opened as a regular file",
    "OUTSIDE_ROOT": "lies outside the archive",
    "TOO_BIG": "more than 256 MiB",
    "NOT_DICOM": "not a DICOM file",
    "NOT_IMAGE": "not a PNG, TIFF or JPEG image",
    "TRUNCATED": "cut off",
    "PARSE_LIMIT": "nested or sized beyond reason",
    "BAD_SYNTAX": "a transfer syntax that is not read",
    "DIM_MISMATCH": "the codestream's size is not the header's",
    "BOMB": "more than 64 megapixels",
    "DECODE_ERROR": "the pixels cannot be decoded",
    "HIGHBIT": "bits stored where they cannot be found",
    "BAD_LUT": "a lookup table that cannot be read",
    "BLANK": "fewer than 16 grey levels",
    "LABEL_DUP": "not one to one with a row of the label table",
    "CHANGED": "not the file that was planned: plan again",
    "TIMEOUT": "took longer than a file may",
    "OOM": "took more memory than a file may",
    "CRASH": "reading it failed in a way that nobody foresaw",
    "ENCODE_ERROR": "the codec did not give back what it was given",
}


class Rejected(Exception):
    """An input that is not converted; it carries a code and nothing of the input."""

    def __init__(self, code: str):
        assert code in ACTIONS, code
        super().__init__(code)
        self.code = code
