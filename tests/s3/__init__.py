"""Tests of asyncblob.s3 against real and faulty services.

Each row of the table "From signal to action" of the facts about S3 has its tests here, under a heading of its name.
"""
