package dev.jvlm;

import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.Architectures.layeredArchitecture;

import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import org.junit.jupiter.api.Test;

/** Who may know whom. Nothing points back. */
class ArchitectureTest {
    private static final JavaClasses CLASSES =
            new ClassFileImporter().withImportOption(new ImportOption.DoNotIncludeTests()).importPackages("dev.jvlm");

    @Test
    void layersKnowOnlyWhatLiesBelow() {
        layeredArchitecture()
                .consideringOnlyDependenciesInLayers()
                .layer("api").definedBy("dev.jvlm")
                .layer("engine").definedBy("dev.jvlm.engine")
                .layer("model").definedBy("dev.jvlm.model")
                .layer("sampling").definedBy("dev.jvlm.sampling")
                .layer("text").definedBy("dev.jvlm.text")
                .layer("request").definedBy("dev.jvlm.request")
                .layer("image").definedBy("dev.jvlm.image")
                .layer("error").definedBy("dev.jvlm.error")
                .whereLayer("api").mayNotBeAccessedByAnyLayer()
                .whereLayer("engine").mayOnlyBeAccessedByLayers("api")
                .whereLayer("model").mayOnlyBeAccessedByLayers("api", "engine")
                .whereLayer("sampling").mayOnlyBeAccessedByLayers("engine")
                .whereLayer("text").mayOnlyBeAccessedByLayers("engine", "model", "sampling")
                .whereLayer("request").mayOnlyBeAccessedByLayers("api", "engine", "model", "sampling")
                .whereLayer("image").mayOnlyBeAccessedByLayers("api", "engine", "model", "request")
                .check(CLASSES);
    }

    /** Pixels come from OpenCV, everything else of native code from one class. */
    @Test
    void nativeCodeIsReachedThroughTheEngineAndTheDecoderOnly() {
        noClasses()
                .that()
                .resideOutsideOfPackages("dev.jvlm.engine", "dev.jvlm.image")
                .should()
                .dependOnClassesThat()
                .resideInAPackage("org.bytedeco..")
                .check(CLASSES);
    }

    @Test
    void namesAreNounsOfTheDomain() {
        noClasses().should().haveNameMatching(".*(Manager|Helper|Util|Utils|Impl|Abstract\\w+)").check(CLASSES);
    }
}
