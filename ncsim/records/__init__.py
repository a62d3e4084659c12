"""What is kept.

`joint_counts` has the one record that everything ends in; `members` what is kept of every member at its end; `trajectories` what is
kept of it along training. NumPy alone is needed here.
"""
