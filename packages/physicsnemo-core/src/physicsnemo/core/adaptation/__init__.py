# SPDX-License-Identifier: Apache-2.0
"""From a model to one of other constructor arguments that starts from its weights.

``adapt`` builds the model and reports what became of each tensor; ``carry_over`` goes through the
tensors; ``rules`` says what becomes of one whose shape has changed, and where families say more.
"""
