"""The files of a run.

`files` writes whole or not at all, on a disk or in an object store; `lock` holds a folder against others. `part_folder` is the base of
both folders of parts: `run_folder` and `trajectory_folder`. `parts` is one file of either; `config_file` and `environment` what a run is
and what it was begun with, and `config_change` changes that beside others that do; `verify` checks every bit.

Decisions
---------
Parts are cut at multiples of a size derived from the config alone (some seconds of training), so that a run that was
killed and resumed has the same files, byte for byte, as one that was not. A part is written by a thread beside the training
(`storage/writer.py`), one after another and in order.

A new part is flat: numbers are signed columns, and the swept fields and each member's statistics are columns too, so that
readers which know nothing of ncsim get types and S right. A folder goes on in the format of its config.json. Its cells' folders are
no hive partitions (name-value, not name=value): readers would take those as texts, against the column of the same name.

A checksum stands in the file that it is of, over the bytes with zeros in its place, so that the two cannot come apart
by a kill between two writes, or by a copy. config.json has a copy besides, because it cannot be trained again.

The environment that began a run stays in config.json whatever the run goes on with. Another one is listed beside it (`later`)
with the members that were missing when it began to train: it made none of the others. Nothing is added where all is of one
kind, so that the bytes of such a folder are always the same.

What a part adds up to lies beside it, under `summaries/`, sealed, with the digest of the part's footer: a part has its bytes whether or not
there are summaries, and one that is missing, torn or of another part is made again by the next report. Nothing depends on them. Those of
trajectories are beside those of members, in a folder of their own.

Trajectories are parts like any other: sealed, in the same storage, checked and repaired. They are
written before the members' own part, so that a part which is there has its trajectories; members that were stored before
anybody asked for a recording are trained again, and recorded only if they come out as stored. recording.json, written
once, says at which steps: a run that records goes on recording, whoever resumes or repairs it.
"""
