"""LangChain at the edges: what a program that uses LangChain imports.

Out go a `VectorStore`, a `BaseRetriever`, a `DocumentIndex`, an `Embeddings` and a document compressor. In
come any `Embeddings` and text splitter as parts of an index version, and any `BaseLoader` as a source.
"""

from __future__ import annotations

from retrieval.eventloops import PerLoop
from retrieval.langchain_embeddings import LangchainEmbedder, TwinrailEmbeddings
from retrieval.langchain_loading import ingest_loader, read_loader
from retrieval.langchain_rail import Rail, Rails, connect, open_rail
from retrieval.langchain_reranking import TwinrailCompressor
from retrieval.langchain_retriever import TwinrailDocumentIndex, TwinrailRetriever
from retrieval.langchain_splitting import SplitterChunker
from retrieval.langchain_store import TwinrailVectorStore

__all__ = [
    "LangchainEmbedder",
    "PerLoop",
    "Rail",
    "Rails",
    "SplitterChunker",
    "TwinrailCompressor",
    "TwinrailDocumentIndex",
    "TwinrailEmbeddings",
    "TwinrailRetriever",
    "TwinrailVectorStore",
    "connect",
    "ingest_loader",
    "open_rail",
    "read_loader",
]
