# SPDX-License-Identifier: Apache-2.0
"""Convolutional recurrent networks: fields that evolve in time, step by step, in a latent space."""

from physicsnemo.models.rnn.rnn_one2many import One2ManyRNN
from physicsnemo.models.rnn.rnn_seq2seq import Seq2SeqRNN

__all__ = ["One2ManyRNN", "Seq2SeqRNN"]
