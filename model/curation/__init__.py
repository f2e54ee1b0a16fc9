"""From ordinary films to metric camera labels: the paper's Sec. 3.2, one file per step."""
