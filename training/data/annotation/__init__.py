"""Stage annotations from a teacher model, as LLaVA-CoT-100k was made (arXiv 2411.10440, section 3.1 and appendix B)."""
