"""The journey out, tried by a machine: what people, QAD, Zendesk and fate may do, in any order.

    hands       edits in QAD and in Zendesk, as people make them
    seams       where a run can be killed, or overtaken: after each commit, around each call
    invariants  what must hold after a clean run, read from the sandbox and the ledger's tables themselves
    fate        the values, faults and failed jobs that are chosen from
    stage       where all examples begin, put back in milliseconds
    rules       the state machine

`python -m tests.sync.machine EXAMPLES [STEPS] [SEED]` runs it for long.
"""
