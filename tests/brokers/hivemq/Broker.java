import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.Files;
import java.nio.file.Path;

/** A HiveMQ CE with the config.xml and the data of a folder: java -cp 'jars/*' Broker.java FOLDER */
class Broker {
    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        var broker = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(folder)
                .withDataFolder(Files.createDirectories(folder.resolve("data")))
                .withExtensionsFolder(Files.createDirectories(folder.resolve("extensions")))
                .build();
        broker.start().join();
    }
}
