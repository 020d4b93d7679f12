"""The engine: from an app address to machine code that runs, and back.

Read it in the order in which a block takes its way: :mod:`.dispatcher` asks for an app address,
:mod:`.translator` makes its translation with the rules of :mod:`.patches` and the gates of
:mod:`.gates`, :mod:`.cache` gives it a place and links it, and the stubs (:mod:`.stubs`,
``asm_stubs/``) switch between host and guest. :mod:`.context` describes the state they all share.
"""
