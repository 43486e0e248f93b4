from genscl_lite.datasets.builtin import DATASETS, Dataset, few_labels, load_dataset

__all__ = ["DATASETS", "Dataset", "few_labels", "load_dataset"]
