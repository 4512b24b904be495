"""The data pipeline of MPCC-Eval: from a COCO folder to screened, labelled and curated pairs."""
