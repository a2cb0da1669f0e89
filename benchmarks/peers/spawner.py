"""Runs programs and says what each has used. It is a small process of its own: a child's peak is at least its parent's.

Run as a file by ``python -I -S``; imports what Python has imported anyway. A request on standard input is a program's
arguments, each ended by a NUL, and a newline; the answer is a line of the exit status, seconds in user mode, seconds in
the kernel, and `ru_maxrss`. What programs print goes to standard error.
"""

import os
import sys


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin.buffer:
        arguments = [os.fsdecode(each) for each in line.rstrip(b"\n").split(b"\0")[:-1]]
        outputs = [(os.POSIX_SPAWN_DUP2, 2, 1)]
        process = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=outputs)
        _, status, usage = os.wait4(process, 0)
        code = os.waitstatus_to_exitcode(status)
        print(code, usage.ru_utime, usage.ru_stime, usage.ru_maxrss, flush=True)


if __name__ == "__main__":
    main()
