# SPDX-License-Identifier: Apache-2.0
"""The pages of the site on models: cards and a table, from what is written down elsewhere."""
